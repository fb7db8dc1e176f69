"""`torchrun` with a rendezvous of one address: `python -P -m devtools.train.launch ARGUMENT…`.

torchrun's own rendezvous listen on all addresses of the machine and have no password. `c10d` also reads pickles from
there, and orders nodes by their addresses, so that any of them may be the one that has the checkpoint. This one is
given a socket that listens already, on one address, and the rank of each node. All else is torchrun: it starts the
workers, watches them and ends them.

    --rdzv-backend address --rdzv-endpoint HOST:PORT --rdzv-conf rank=0,listener=FD
    --rdzv-backend address --rdzv-endpoint HOST:PORT --rdzv-conf rank=1
"""

from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousParameters
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo, rendezvous_handler_registry
from torch.distributed.run import main

BACKEND = "address"
JOIN_S = 3600.0
"""A node waits this long for the others, which may still fetch their inputs; the job can be stopped before."""


class AddressRendezvous(RendezvousHandler):
    """The nodes of one run, by rank; the first has the store, which the workers use too.

    Args:
        run: Its id.
        endpoint: `host:port` of the store.
        rank: Of this node.
        size: Number of nodes.
        listener: File descriptor of the listening socket of the store; None on the other nodes.
    """

    def __init__(self, run: str, endpoint: str, rank: int, size: int, listener: int | None) -> None:
        self._run, self._rank, self._size, self._listener = run, rank, size, listener
        host, _, port = endpoint.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._store: Store | None = None

    @property
    def use_agent_store(self) -> bool:
        """Whether the workers use the launcher's store."""
        return True

    def get_backend(self) -> str:
        """The name of the rendezvous."""
        return BACKEND

    def next_rendezvous(self) -> RendezvousInfo:
        """Connect to the store; the first node opens it."""
        if self._store is None:
            more = {} if self._listener is None else {"master_listen_fd": self._listener}
            self._store = TCPStore(
                self._host,
                self._port,
                is_master=self._listener is not None,
                timeout=timedelta(seconds=JOIN_S),
                wait_for_workers=False,
                multi_tenant=True,
                **more,
            )
        place = RendezvousStoreInfo(self._host, self._port)
        return RendezvousInfo(PrefixStore(self._run, self._store), self._rank, self._size, place)

    def is_closed(self) -> bool:
        """Whether nothing can join: never, since no node comes or goes within a run."""
        return False

    def set_closed(self) -> None:
        """Nothing to do."""

    def num_nodes_waiting(self) -> int:
        """Nodes that would like to join a run that has begun: none."""
        return 0

    def get_run_id(self) -> str:
        """The id of the run."""
        return self._run

    def shutdown(self) -> bool:
        """Nothing to close: the store ends with the process."""
        return True


def rendezvous(parameters: RendezvousParameters) -> RendezvousHandler:
    """The rendezvous of torchrun's arguments."""
    rank = parameters.get_as_int("rank")
    assert rank is not None, "--rdzv-conf has the rank"
    return AddressRendezvous(
        parameters.run_id, parameters.endpoint, rank, parameters.max_nodes, parameters.get_as_int("listener")
    )


if __name__ == "__main__":
    rendezvous_handler_registry.register(BACKEND, rendezvous)
    main()
