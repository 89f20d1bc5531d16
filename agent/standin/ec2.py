"""EC2: DescribeTags of the one instance, from the tags that its metadata holds.

docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeTags.html
"""

import re
from collections.abc import Callable, Mapping

from agent.standin.errors import ApiError
from agent.standin.keys import Key
from agent.standin.query_protocol import Form, Operation, Result

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_FILTER = re.compile(r"Filter\.(\d+)\.Name")
_FIELDS = {"resource-id": "resourceId", "resource-type": "resourceType", "key": "key", "value": "value"}


class Ec2:
    """`tags` gives the instance's tags when asked."""

    def __init__(self, instance_id: str, tags: Callable[[], Mapping[str, str]]) -> None:
        self._instance_id = instance_id
        self._tags = tags

    def operations(self) -> Mapping[str, Operation]:
        return {"DescribeTags": self._describe_tags}

    def _describe_tags(self, form: Form, _key: Key) -> Result:
        wanted = _filters(form)
        own = {"resourceId": self._instance_id, "resourceType": "instance"}
        found = [{**own, "key": key, "value": value} for key, value in sorted(self._tags().items())]
        return {"tagSet": [tag for tag in found if all(tag[name] in values for name, values in wanted.items())]}


def _filters(form: Form) -> dict[str, set[str]]:
    wanted: dict[str, set[str]] = {}
    for parameter, name in form.items():
        if match := _FILTER.fullmatch(parameter):
            if name not in _FIELDS:
                raise ApiError(f"The filter '{name}' is invalid", code="InvalidParameterValue", status=400)
            prefix = f"Filter.{match[1]}.Value."
            wanted[_FIELDS[name]] = {value for key, value in form.items() if key.startswith(prefix)}
    return wanted
