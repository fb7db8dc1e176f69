#!/bin/sh
# Gives what LLMOS stored before its bus had accounts to the account of the owner, then becomes nats-server.
set -eu
before='/data/jetstream/$G'
after=/data/jetstream/owner
if [ -d "$before" ] && [ ! -e "$after" ]; then
    mv "$before" "$after"
fi
exec nats-server -c /etc/nats/nats.conf
