"""One way into AWS: region, credentials, endpoints and roles by the standard environment of AWS SDKs.

Sources: docs.aws.amazon.com/sdkref/latest/guide (standardized credential providers, service-specific endpoints,
AWS_CA_BUNDLE, HTTP_PROXY). Nothing here knows whether it talks to AWS or to a stand-in.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from agent.aws.cold import call
from agent.aws.wire import USER_AGENT, Route, Wire
from agent.engine.clock import Clock

_CONNECT_SECONDS = 5
_READ_SECONDS = 20
_COLD_ATTEMPTS = 3  # of a plain boto3 call; what must succeed is tried again by its caller
_METADATA_SECONDS = 2  # for the instance role's credentials
_METADATA_ATTEMPTS = 3


class RegionUnknown(Exception):
    """The configuration of the AWS SDKs (AWS_PROFILE, ~/.aws/config) can't be read: mend what the message names."""


class Aws:
    """Clients and wires, made when first needed: each boto3 client costs 3 to 8 MB. Safe to use from any thread."""

    def __init__(
        self, region: str, clock: Clock, role_arn: str | None = None, external_id: str | None = None
    ) -> None:
        self.region = region
        self._clock = clock
        self._role = (role_arn, external_id)
        self._lock = threading.RLock()
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._wires: dict[str, Wire] = {}
        self._roles: dict[tuple[str | None, str | None], Aws] = {self._role: self}

    def as_role(self, role_arn: str | None, external_id: str | None = None) -> Aws:
        """AWS as another role sees it; None: as this one."""
        if role_arn is None:
            return self
        with self._lock:
            key = (role_arn, external_id)
            if key not in self._roles:
                self._roles[key] = Aws(self.region, self._clock, role_arn, external_id)
            return self._roles[key]

    def client(self, service: str, region: str | None = None) -> Any:
        """The boto3 client of a service, for calls that are not hot. Raises AwsError."""
        with self._lock:
            key = f"{service} {region or self.region}"
            if key not in self._clients:
                create = self._boto3().client
                self._clients[key] = call(
                    "CreateClient",
                    create,
                    service_name=service,
                    region_name=region or self.region,
                    config=_config(),
                )
            return self._clients[key]

    def wire(self, service: str, region: str | None = None, url: str | None = None) -> Wire:
        """A wire to a service's endpoint, or to `url` (a bucket's own host) with that service's signature.

        Raises AwsError.
        """
        with self._lock:
            key = f"{service} {region} {url}"
            if key not in self._wires:
                self._wires[key] = Wire(self._route(service, region, url), self.credentials(), self._clock)
            return self._wires[key]

    def credentials(self) -> Callable[[], Any]:
        """What gives botocore's frozen credentials, refreshed when they are due; None where there are none.

        It raises AwsError where they can't be had now, or a role may not be assumed.
        """
        source: list[Any] = []

        def frozen() -> Any:
            with self._lock:
                if not source or source[0] is None:
                    source[:] = [call("GetCredentials", self._boto3().get_credentials)]
            return None if source[0] is None else call("GetCredentials", source[0].get_frozen_credentials)

        return frozen

    def close(self) -> None:
        """Close all connections; calls under way end at once."""
        with self._lock:
            others = [role for role in self._roles.values() if role is not self]
            wires, clients = list(self._wires.values()), list(self._clients.values())
        for other in others:
            other.close()
        for wire in wires:
            wire.close()
        for client in clients:
            client.close()

    def _route(self, service: str, region: str | None, url: str | None) -> Route:
        from botocore.httpsession import get_cert_path
        from botocore.utils import get_environ_proxies

        client = self.client(service, region)
        target = url or client.meta.endpoint_url
        bundle = self._boto3()._session.get_config_variable("ca_bundle")  # noqa: SLF001 - boto3 shows no other way
        proxies = get_environ_proxies(target)
        return Route(
            url=target,
            region=client.meta.region_name,
            signing_name=client.meta.service_model.signing_name,
            ca_bundle=bundle or get_cert_path(True),
            proxy=proxies.get(target.partition(":")[0]),
        )

    def _boto3(self) -> Any:
        with self._lock:
            if self._session is None:
                arn, external_id = self._role
                self._session = call(
                    "CreateSession", _boto3_session, region=self.region, role_arn=arn, external_id=external_id
                )
            return self._session


def find_region(configured: str | None) -> str | None:
    """The region by configuration, environment or profile; None: ask the metadata service. Raises RegionUnknown."""
    found = configured or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if found:
        return found
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        region: str | None = botocore.session.Session().get_config_variable("region")
    except BotoCoreError as error:
        raise RegionUnknown(str(error)) from error
    return region


def _boto3_session(region: str, role_arn: str | None, external_id: str | None) -> Any:
    import boto3
    import botocore.session

    core = botocore.session.Session()
    core.register_component("data_loader", _loader(core))
    core.set_config_variable("metadata_service_timeout", _METADATA_SECONDS)
    core.set_config_variable("metadata_service_num_attempts", _METADATA_ATTEMPTS)
    core.set_config_variable("region", region)
    if role_arn is not None:
        _assume(core, region, role_arn, external_id)
    return boto3.Session(botocore_session=core, region_name=region)


def _loader(core: Any) -> Any:
    from agent.aws.data import LeanLoader

    more = core.get_config_variable("data_path")
    return LeanLoader([os.path.expanduser(path) for path in more.split(os.pathsep)] if more else None)


def _assume(core: Any, region: str, role_arn: str, external_id: str | None) -> None:
    """Let the session's credentials be those of the role, renewed by botocore before they expire."""
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=lambda name, **arguments: core.create_client(
            name, **{"region_name": region, "config": _config(), **arguments}
        ),
        source_credentials=_Source(core.get_component("credential_provider").load_credentials),
        role_arn=role_arn,
        extra_args={"RoleSessionName": "outlive", **({"ExternalId": external_id} if external_id else {})},
    )
    core._credentials = DeferredRefreshableCredentials(  # noqa: SLF001 - botocore shows no other way
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )


class _Source:
    """The credentials that a role is assumed with, looked for when they are first needed."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._found: Any = None

    def get_frozen_credentials(self) -> Any:
        from botocore.exceptions import NoCredentialsError

        self._found = self._found or self._load()
        if self._found is None:
            raise NoCredentialsError
        return self._found.get_frozen_credentials()


def _config() -> Any:
    from botocore.config import Config

    return Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _COLD_ATTEMPTS},
        user_agent_extra=USER_AGENT,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=4,
    )
