"""The embedded system: nats-server and the five services as supervised child processes on one machine."""
