"""Sealed streams: age on the command line reads them, and what was altered, cut or sealed for another is refused."""

import errno
import io
import shutil
import subprocess

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncengine.errors import RestorePointUnusable
from syncengine.local.keys import KeyFile, SealingKey
from syncengine.local.sealing import BYTES_BETWEEN, seal, sha256_of, unseal

KEY = SealingKey.fresh()


def sealed(plain, *, key=KEY):
    target = io.BytesIO()
    went_in = seal(io.BytesIO(plain), target, key=key)
    return target.getvalue(), went_in


def opened(text, *, key=KEY):
    target = io.BytesIO()
    return unseal(io.BytesIO(text), target, key=key), target.getvalue()


@given(st.binary(max_size=200_000))
def test_what_was_sealed_comes_out_with_the_same_hash(plain):
    text, went_in = sealed(plain)
    facts, came_out = opened(text)
    assert came_out == plain
    assert facts.plain_sha256 == went_in == sha256_of(io.BytesIO(plain))
    assert facts.sealed_sha256 == sha256_of(io.BytesIO(text))
    assert facts.size_bytes == len(text)
    assert len(plain) < 32 or plain not in text


def test_age_on_the_command_line_opens_what_we_seal_and_we_open_what_it_seals(tmp_path):
    if shutil.which("age") is None:
        pytest.skip("age is not installed: apt-get install age")
    key = KeyFile(tmp_path / "key").identity()
    plain = bytes(range(256)) * 1_000
    (tmp_path / "ours").write_bytes(sealed(plain, key=key)[0])
    theirs = subprocess.run(
        ["age", "-d", "-i", tmp_path / "key", tmp_path / "ours"], check=True, capture_output=True, timeout=60
    )
    assert theirs.stdout == plain
    subprocess.run(["age", "-r", key.recipient, "-o", tmp_path / "theirs"], input=plain, check=True, timeout=60)
    assert opened((tmp_path / "theirs").read_bytes(), key=key)[1] == plain


def test_another_key_does_not_open_it():
    with pytest.raises(RestorePointUnusable, match="another key"):
        opened(sealed(b"a row")[0], key=SealingKey.fresh())


def test_a_flipped_bit_anywhere_is_noticed():
    text, _ = sealed(b"a row of somebody" * 5_000)
    for place in range(0, len(text), 997):
        altered = bytearray(text)
        altered[place] ^= 1
        with pytest.raises(RestorePointUnusable):
            opened(bytes(altered))


def test_a_text_that_is_cut_anywhere_is_noticed():
    text, _ = sealed(b"a row of somebody" * 10_000)
    for length in (*range(0, len(text), 4_999), len(text) - 1):
        with pytest.raises(RestorePointUnusable):
            opened(text[:length])


def test_pieces_that_changed_places_are_noticed():
    text, _ = sealed(bytes(200_000))
    header = len(text) - (200_000 + 4 * 16)
    piece = 64 * 1024 + 16
    first, second = text[header : header + piece], text[header + piece : header + 2 * piece]
    with pytest.raises(RestorePointUnusable):
        opened(text[:header] + second + first + text[header + 2 * piece :])


def test_two_seals_of_the_same_bytes_have_nothing_in_common():
    one, two = sealed(bytes(100_000))[0], sealed(bytes(100_000))[0]
    assert one[300:] != two[300:]


class Failing(io.BytesIO):
    """A file on a disk that is full, or broken."""

    def read(self, size_bytes=-1):
        raise OSError(errno.EIO, "input/output error")

    def write(self, piece):
        raise OSError(errno.ENOSPC, "no space")


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [(io.BytesIO(bytes(10)), Failing(), errno.ENOSPC), (Failing(), io.BytesIO(), errno.EIO)],
    ids=["full disk", "broken disk"],
)
def test_the_disks_own_error_comes_through_as_it_was(source, target, code):
    with pytest.raises(OSError, check=lambda error: error.errno == code):
        seal(source, target, key=KEY)


def test_the_disks_own_error_comes_through_when_it_is_opened():
    with pytest.raises(OSError, check=lambda error: error.errno == errno.ENOSPC):
        unseal(io.BytesIO(sealed(bytes(10))[0]), Failing(), key=KEY)


def test_what_is_asked_between_two_pieces_may_end_the_stream():
    class Enough(Exception):
        """Somebody else has taken over."""

    def stop():
        raise Enough

    with pytest.raises(Enough):
        seal(io.BytesIO(bytes(2 * BYTES_BETWEEN)), io.BytesIO(), key=KEY, between=stop)


def test_sealing_is_for_the_public_half_alone():
    """Sealed for one recipient: no passphrase and no second reader is in the header."""
    text, _ = sealed(b"")
    assert text.startswith(b"age-encryption.org/v1\n-> X25519 ")
    assert text[: text.index(b"\n--- ")].count(b"\n-> ") <= 2
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(text, [pyrage.x25519.Identity.generate()])
