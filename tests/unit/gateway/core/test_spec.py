"""What a server is ordered as, written down and read back."""

import json

from gateway.core.plan import Need
from gateway.core.spec import ServerSpec, need_document, need_from


def test_a_spec_reads_back_as_it_was() -> None:
    """Sealed with an order and opened at the next start, it orders the same."""
    need = Need(min_vcpu=2, max_hourly="0.05", for_s=3600, vendors=("a", "b"), features=("exec",), sandbox=True)
    spec = ServerSpec(need, ("sshk_1",), "#cloud-config\n", 90, "snp_1")
    assert ServerSpec.from_document(spec.to_document()) == spec
    assert ServerSpec.from_document(ServerSpec(Need(plan="a/b")).to_document()) == ServerSpec(Need(plan="a/b"))


def test_what_does_not_matter_is_left_out() -> None:
    """An empty need is an empty document, and reads back."""
    assert need_document(Need()) == {}
    assert need_from({}) == Need()
    assert need_document(Need(region="ams", not_vendors=("x",))) == {"region": "ams", "not_vendors": ["x"]}


def test_a_need_of_an_older_version_keeps_what_it_says() -> None:
    """`arch` can be asked for no more; dropped from a spec that was stored with it, another machine would be bought."""
    stored = '{"need":{"arch":"arm64"},"ssh_keys":[],"user_data":"","minutes":null,"snapshot":""}'
    spec = ServerSpec.from_document(json.loads(stored))
    assert spec == ServerSpec(Need(arch="arm64"))
    assert spec.to_document() == json.loads(stored)


def test_user_data_is_in_no_repr() -> None:
    """It may hold secrets (P10)."""
    assert "hunter2" not in repr(ServerSpec(Need(), user_data="hunter2"))
