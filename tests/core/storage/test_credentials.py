"""Credentials are refused in configs and hidden in whatever is shown; packages that are missing are named."""

import pickle
import re
import sys
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
from pydantic import ValidationError

from datarax_core.config import FrozenConfig, redacted, without_query
from datarax_core.config.base import LocalPath, LocalPattern
from datarax_core.errors import ConfigError
from datarax_core.storage import RemoteOptions, ranges, stamp_of
from datarax_core.storage.stores import failures, systems

SECRET = "hunter2"  # noqa: S105 - of the tests


class Config(RemoteOptions):
    path: LocalPath | None = None
    paths: tuple[LocalPattern, ...] = ()


SECRETIVE = [
    f"https://me:{SECRET}@host.org/x.npz",
    f"https://{SECRET}@host.org/x.npz",
    f"https://host.org/x?X-Amz-Signature={SECRET}&X-Amz-Date=1",
    f"https://host.org/x?sv=2024&sig={SECRET}",
    f"https://host.org/x?access_token={SECRET}",
    f"https://host.org/x?AWSAccessKeyId={SECRET}",
    f"s3://{SECRET}:{SECRET}@bucket/x",
    f"s3://AKIA:wJalr/{SECRET}@bucket/x",  # keys of AWS have slashes; none of these is an address, and all are pasted
    f"https://me:a){SECRET}@host.org/x",
    f"https://me:a'{SECRET}@host.org/x",
    f"https://me:a#{SECRET}@host.org/x",
    f"https://host.org/x?a=1;token={SECRET}",
    f"https://host.org/x?sig=a){SECRET}",
    f"https://host.org/x#access_token={SECRET}",
    f"abfss://me:{SECRET}@account.dfs.core.windows.net/x",
]


@pytest.mark.parametrize("address", SECRETIVE)
def test_addresses_with_credentials_are_refused_without_being_shown(address: str) -> None:
    assert SECRET not in redacted(f"cannot open '{address}': 403")
    assert SECRET not in without_query(address)
    for fields in ({"path": address}, {"paths": [address]}):
        with pytest.raises(ValidationError, match="holds credentials, and configs end in states, logs") as caught:
            Config(**fields)
        assert SECRET not in str(caught.value)
        assert SECRET not in repr(caught.value.errors())


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/a?b#c@d:e.npz",
        "https://host.org/x?download=1&page=key",
        "abfss://container@account.dfs.core.windows.net/x",
        "gs://bucket/monkey/token.npz",
        "hf://datasets/user/name@main/x.npz",
        "s3://arn:aws:s3:us-west-2:123456789012:accesspoint/mine/x@8",
        "http://127.0.0.1:8000/x@8",
        "http://[::1]:8000/x@8",
    ],
)
def test_other_addresses_are_as_they_were(address: str) -> None:
    assert redacted(address) == address
    assert Config(path=address).path == address


def test_a_password_with_a_space_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError, match="holds credentials") as caught:
        Config(path=f"https://me:a {SECRET}@host.org/x")
    assert SECRET not in str(caught.value)


def test_texts_around_addresses_stay() -> None:
    text = "cannot read 'https://a:80/x?sig=b' (of https://c@d/e?token=f), as http://h:1: said; mail me@example.org"
    assert redacted(text) == (
        "cannot read 'https://a:80/x?sig=***' (of https://***@d/e?token=***), as http://h:1: said; mail me@example.org"
    )


def test_a_local_path_is_no_address() -> None:
    assert Config(path="/data/a://b:c@d").path == "/data/a://b:c@d"


def test_addresses_in_states_have_no_query() -> None:
    assert without_query("https://host.org/a/b.npz?page=1#top") == "https://host.org/a/b.npz"
    assert without_query("s3://bucket/a?b#c") == "s3://bucket/a?b#c", "of a name"
    assert without_query("s3://bucket/a?versionId=7") == "s3://bucket/a"
    assert without_query("/data/a?b") == "/data/a?b"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"key": SECRET}, "key"),
        ({"secret": SECRET, "anon": False}, "secret"),
        ({"token": SECRET}, "token"),
        ({"token": {"private_key": SECRET}}, "token"),
        ({"client_kwargs": {"aws_session_token": SECRET}}, "client_kwargs.aws_session_token"),
        ({"headers": {"Authorization": SECRET}}, "headers.Authorization"),
        ({"connection_string": SECRET}, "connection_string"),
        ({"client_kwargs": {"endpoint_url": f"https://me:{SECRET}@host"}}, "client_kwargs.endpoint_url"),
        ({"headers": [["Authorization", SECRET]]}, "headers.Authorization"),
        ({"proxies": [f"https://me:{SECRET}@host"]}, "proxies.0"),
        ({"some": [{"token": SECRET}]}, "some.0.token"),
        ({"auth": ["me", SECRET]}, "auth"),
    ],
)
def test_options_with_credentials_are_refused_without_being_shown(options: dict[str, Any], named: str) -> None:
    refused = rf"{re.escape(named)} of storage_options would keep credentials in a config.*AWS_ACCESS_KEY_ID"
    with pytest.raises(ValidationError, match=refused) as caught:
        Config(storage_options=options)
    assert SECRET not in str(caught.value)


def test_options_that_hold_no_credentials_are_taken() -> None:
    options = {"anon": True, "token": "anon", "requester_pays": True, "client_kwargs": {"endpoint_url": "http://host"}}
    config = Config(storage_options=options, cache_dir="/tmp/x", cache_bytes="1.5 GiB")  # noqa: S108 - no file is made
    assert config.storage_options == options
    assert config.cache_bytes == 3 << 29
    assert Config(cache_dir="x", cache_bytes=5).cache_bytes == 5
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - ours
    with pytest.raises(
        ValidationError, match="'20 G' is no number of bytes; write one such as 20GiB, 500MB or 1000000"
    ):
        Config(cache_dir="x", cache_bytes="20 G")
    with pytest.raises(
        ValidationError, match="cache_bytes limits the cache in cache_dir, which is null; name a folder there"
    ):
        Config(cache_bytes="20GiB")
    with pytest.raises(ValidationError, match="'s3://bucket/cache' is not on this machine"):
        Config(cache_dir="s3://bucket/cache")


def test_errors_of_signed_addresses_do_not_show_the_signature(
    http_server: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "FIRST_WAIT", 0.001)
    caplog.set_level("DEBUG")
    address = f"{http_server.put('x', b'abc')}?sig={SECRET}"
    assert ranges([address], [0], [2]) == [b"ab"]
    for fault in ("errors", "resets", "truncated"):
        setattr(http_server.faults, fault, 100)
        with pytest.raises(ConnectionError, match=r"/x\?sig=\*\*\* cannot be read") as caught:
            ranges([address], [0], [2])
        setattr(http_server.faults, fault, 0)
        assert SECRET not in repr(caught.value) + repr(caught.value.__context__) + repr(caught.value.__cause__)
        assert SECRET not in caplog.text
    with pytest.raises(FileNotFoundError, match=r"/none\?sig=\*\*\* ") as absent:
        stamp_of(f"{http_server.url}/none?sig={SECRET}")
    assert SECRET not in str(absent.value)


@pytest.mark.parametrize(
    ("address", "absent", "message"),
    [
        (
            "s3://b/x",
            ["s3fs"],
            r"^s3://b/x is read by fsspec and s3fs, and s3fs is not installed: pip install 'datarax-core\[r",
        ),
        ("gs://b/x", ["gcsfs"], r"gcsfs is not installed: pip install 'datarax-core\[remote\]' gcsfs$"),
        (
            "az://b/x",
            ["fsspec", "adlfs"],
            r"fsspec and adlfs are not installed: pip install 'datarax-core\[remote\]' adlfs$",
        ),
        ("https://h/x", ["fsspec"], r"fsspec is not installed: pip install 'datarax-core\[remote\]'$"),
    ],
)
def test_a_package_that_is_missing_is_named(
    address: str, absent: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = systems.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name in absent else ModuleSpec(name, None) if name in ("gcsfs", "adlfs") else find(name)

    monkeypatch.setattr(systems, "find_spec", without)
    monkeypatch.setattr(systems._stores, "made", {})
    with pytest.raises(ConfigError, match=message):
        stamp_of(address)


def test_fsspec_is_imported_only_for_addresses() -> None:
    import subprocess  # noqa: PLC0415 - of this test

    code = (
        "import sys; from datarax_core.storage import ranges, RangeReader; from datarax_core.files import data_files; "
        "ranges([sys.executable], [0], [4]); print([name for name in ('fsspec', 's3fs', 'aiohttp', 'jax') if name in "
        "sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert done.stdout.strip() == "[]"


def test_frozen_configs_hide_credentials_of_any_field() -> None:
    class Other(FrozenConfig):
        password: int

    with pytest.raises(ValidationError) as caught:
        Other.model_validate({"password": 1, "unknown": {"token": SECRET}})
    assert SECRET not in str(caught.value)
