"""START HERE: all the stand-ins together behind one port."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from agent.standin import autoscaling, ec2, sts
from agent.standin.autoscaling import AutoScaling
from agent.standin.clock import Clock
from agent.standin.control import Control
from agent.standin.dispatch import Dispatcher, Front
from agent.standin.ec2 import Ec2
from agent.standin.faults import FaultPlan
from agent.standin.journal import Journal
from agent.standin.json_protocol import JsonFront
from agent.standin.keys import ACCESS_KEY, SECRET_KEY, KeyRing
from agent.standin.lifecycle import Lifecycle
from agent.standin.logs import Logs
from agent.standin.metadata import Metadata
from agent.standin.metric_limits import MAX_BODY
from agent.standin.monitoring import Monitoring
from agent.standin.query_protocol import QueryFront
from agent.standin.s3 import S3
from agent.standin.s3_multipart import Uploads
from agent.standin.s3_operations import S3Operations
from agent.standin.s3_store import Store
from agent.standin.server import Server
from agent.standin.signatures import Verifier
from agent.standin.sts import Sts
from agent.standin.tape import Tape

REGION = "eu-west-1"
ACCOUNT_ID = "123456789012"
INSTANCE_ID = "i-0123456789abcdef0"


class Standin:
    """AWS for one instance, on 127.0.0.1, from construction until close().

    What arrived and what shall happen is in the attributes: `logs`, `monitoring`, `s3` (the store), `uploads`
    (multipart uploads in progress), `lifecycle`, `metadata`, `sts`, `keys`, `faults`, `journal`. `clock` decides
    "now" for the services; `signing_clock` (always from the wall clock, as signers are) for signatures and
    credentials.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        region: str = REGION,
        account_id: str = ACCOUNT_ID,
        instance_id: str = INSTANCE_ID,
        seed: int = 0,
        directory: str | None = None,
    ) -> None:
        self.region = region
        self.account_id = account_id
        self.instance_id = instance_id
        self.clock = Clock(clock)
        self.signing_clock = Clock()
        with contextlib.ExitStack() as held:
            self._build(held, seed, directory)
            self._server = Server(self._make_dispatcher(), port=port)
            self._held = held.pop_all()

    def _build(self, held: contextlib.ExitStack, seed: int, parent: str | None) -> None:
        """Make the state; what must be let go of at the end goes into `held`."""
        directory = held.enter_context(tempfile.TemporaryDirectory(prefix="standin-", dir=parent))
        events, datums = (held.enter_context(contextlib.closing(Tape(directory))) for _ in range(2))
        region, account_id = self.region, self.account_id
        self.keys = KeyRing(self.signing_clock, account_id)
        self.faults = FaultPlan(self.clock, seed)
        self.journal = Journal()
        self.logs = Logs(self.clock, events, region, account_id)
        self.monitoring = Monitoring(self.clock, datums, region, account_id)
        self.s3 = Store(directory, self.clock, region, account_id)
        self.uploads = Uploads(self.s3, self.clock)
        self.lifecycle = Lifecycle(self.clock, f"{region}a")
        self.sts = Sts(self.keys, account_id)
        self.metadata = self._make_metadata()

    @classmethod
    def start(
        cls,
        *,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        region: str = REGION,
        instance_id: str = INSTANCE_ID,
        seed: int = 0,
    ) -> Self:
        """A running stand-in, to be used as `with Standin.start() as standin:`."""
        return cls(clock=clock, port=port, region=region, instance_id=instance_id, seed=seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all threads and connections, and remove all that arrived."""
        self.faults.clear()
        self._server.close()
        self._held.close()

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, *, role: bool = False) -> dict[str, str]:
        """Environment variables that lead any AWS SDK here, and nowhere else.

        With `role` there are no keys among them: the credential chain finds the role's in instance metadata.
        """
        keys = {} if role else {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        return {
            **keys,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url,
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1",
        }

    def reset(self) -> None:
        """As if just started: nothing arrived, no faults, no groups, clocks at their sources; keys stay valid."""
        self.clock.offset = self.signing_clock.offset = 0.0
        self.faults.clear()
        self.journal.clear()
        self.logs.clear()
        self.monitoring.clear()
        self.uploads.clear()
        self.s3.clear()
        self.lifecycle.clear()
        self.metadata.clear()
        self.sts.external_ids.clear()

    def _make_metadata(self) -> Metadata:
        return Metadata(
            self.clock,
            self.keys,
            self.lifecycle,
            instance_id=self.instance_id,
            region=self.region,
            account_id=self.account_id,
        )

    def _make_dispatcher(self) -> Dispatcher:
        verifier = Verifier(self.keys, self.signing_clock)
        operations = S3Operations(self.s3, self.uploads, self.clock, self.account_id)
        s3 = S3(verifier, self.s3, operations)
        fronts: list[Front] = [s3, *self._json_fronts(verifier), *self._query_fronts(verifier)]
        return Dispatcher(
            fronts={front.name: front for front in fronts},
            unsigned=s3,
            metadata=self.metadata,
            control=Control(self),
            faults=self.faults,
            journal=self.journal,
            clock=self.clock,
            date=self.signing_clock,
        )

    def _json_fronts(self, verifier: Verifier) -> list[Front]:
        logs = JsonFront("logs", "Logs_20140328", "1.1", self.region, verifier, self.logs.operations())
        monitoring = JsonFront(
            "monitoring",
            "GraniteServiceVersion20100801",
            "1.0",
            self.region,
            verifier,
            self.monitoring.operations(),
            limit=MAX_BODY,
            query_errors=True,
        )
        return [logs, monitoring]

    def _query_fronts(self, verifier: Verifier) -> list[Front]:
        scaling = AutoScaling(self.lifecycle, self.region, self.account_id)
        tags = Ec2(self.instance_id, self.metadata.tags)
        services = (
            ("autoscaling", autoscaling.NAMESPACE, scaling.operations()),
            ("sts", sts.NAMESPACE, self.sts.operations()),
            ("ec2", ec2.NAMESPACE, tags.operations()),
        )
        return [
            QueryFront(name, namespace, self.region, verifier, operations, ec2=name == "ec2")
            for name, namespace, operations in services
        ]
