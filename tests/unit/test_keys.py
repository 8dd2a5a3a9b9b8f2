"""Where the key that seals restore points comes from: private files, trusted keyrings, the host; never less."""

import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend
from keyring.backends.fail import Keyring as FailingKeyring
from keyring.backends.null import Keyring as NullKeyring
from keyring.errors import KeyringLocked

from syncengine import HostKey, KeyFile, KeyringKey
from syncengine.errors import KeyUnavailable
from syncengine.local.keys import KEY_BEGINS, SealingKey

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "app.db.key"


# The key itself.


def test_a_key_shows_its_public_half_only():
    key = SealingKey.fresh()
    secret = key.secret_text()
    assert key.recipient.startswith("age1")
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr(vars(KeyFile)), repr(HostKey(lambda: secret))):
        assert KEY_BEGINS not in shown
    assert repr(key) == "SealingKey(…)"


def test_a_key_is_not_pickled():
    with pytest.raises(TypeError):
        pickle.dumps(SealingKey.fresh())


def test_the_text_of_age_keygen_is_read_with_its_comments():
    key = SealingKey.fresh()
    text = f"# created: 2026-05-04T09:30:00Z\n# public key: {key.recipient}\n\n{key.secret_text()}\n"
    assert SealingKey.parse(text) == key


@pytest.mark.parametrize("cut", [0, 1, 20, 73])
def test_what_is_no_whole_key_is_refused_without_a_word_of_it(cut):
    secret = SealingKey.fresh().secret_text()
    with pytest.raises(KeyUnavailable) as refused:
        SealingKey.parse(secret[:cut] + "\n")
    shown = "".join(traceback.format_exception(refused.value))
    assert cut < 20 or secret[17:cut] not in shown


def test_two_keys_in_one_text_are_refused():
    text = "\n".join(SealingKey.fresh().secret_text() for _ in range(2))
    with pytest.raises(KeyUnavailable):
        SealingKey.parse(text)


# In a file.


def test_a_key_file_is_made_on_first_use_private_whatever_the_umask(file):
    before = os.umask(0)
    try:
        key = KeyFile(file).identity()
    finally:
        os.umask(before)
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert KeyFile(file).identity() == key
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o601])
def test_a_key_file_that_others_may_use_is_refused(file, mode):
    KeyFile(file).identity()
    file.chmod(mode)
    with pytest.raises(KeyUnavailable, match="others may use it"):
        KeyFile(file).identity()


def test_a_link_is_no_key_file(file):
    KeyFile(file).identity()
    link = file.with_name("link.key")
    link.symlink_to(file)
    with pytest.raises(KeyUnavailable):
        KeyFile(link).identity()


def test_a_link_that_leads_nowhere_is_not_followed_to_make_one(file):
    elsewhere = file.with_name("elsewhere")
    file.symlink_to(elsewhere)
    with pytest.raises(KeyUnavailable):
        KeyFile(file).identity()
    assert not elsewhere.exists()


def test_a_pipe_is_no_key_file_and_nobody_waits_for_it(file):
    os.mkfifo(file, 0o600)
    with pytest.raises(KeyUnavailable, match="not a plain file"):
        KeyFile(file).identity()


def test_a_key_file_of_another_user_is_refused(file):
    KeyFile(file).identity()
    if os.geteuid() == 0:
        os.chown(file, 12345, -1)
    else:
        file = Path("/etc/passwd")  # root's
    with pytest.raises(KeyUnavailable, match="another user"):
        KeyFile(file).identity()


def test_a_key_file_that_is_torn_is_refused_and_not_replaced(file):
    KeyFile(file).identity()
    torn = file.read_bytes()[:-30]
    file.write_bytes(torn)
    with pytest.raises(KeyUnavailable):
        KeyFile(file).identity()
    assert file.read_bytes() == torn


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(KeyUnavailable, match="cannot be used"):
        KeyFile(tmp_path / "nowhere" / "app.key").identity()


def test_processes_that_start_at_once_end_with_one_key(file):
    code = (
        "import sys; from syncengine import KeyFile; sys.stdin.readline(); "
        "print(KeyFile(sys.argv[1]).identity().recipient)"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(file)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for starter in starters:
        starter.stdin.write("go\n")
        starter.stdin.flush()
    said = {starter.communicate(timeout=60)[0] for starter in starters}
    assert said == {KeyFile(file).identity().recipient + "\n"}


# In the keyring.


class Safe(KeyringBackend):
    """Keeps secrets in memory, as a keyring daemon does."""

    priority = 1

    def __init__(self):
        super().__init__()
        self.kept = {}

    def get_password(self, service, username):
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self.kept[service, username] = password

    def delete_password(self, service, username):
        del self.kept[service, username]


class Plain(Safe):
    """Stands for keyrings.alt: it would keep plain text."""


class Locked(Safe):
    """A keyring that nobody has unlocked."""

    def get_password(self, service, username):
        raise KeyringLocked("a secret sentence")


class Forgetful(Safe):
    """Takes everything and keeps nothing."""

    def set_password(self, service, username, password):
        """Nothing is kept."""


@pytest.fixture
def chosen():
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


def _chain(*backends):
    class Chain(ChainerBackend):
        priority = 1

    Chain.backends = list(backends)
    return Chain()


TRUSTING = {"also_trusted": (Safe.__module__,)}


def test_a_keyring_key_is_made_once_and_kept_per_app(chosen):
    chosen(Safe())
    one = KeyringKey("journal", **TRUSTING).identity()
    assert KeyringKey("journal", **TRUSTING).identity() == one
    assert KeyringKey("other", **TRUSTING).identity() != one


@pytest.mark.parametrize("make", [Plain, NullKeyring, FailingKeyring, lambda: _chain(Plain(), NullKeyring())])
def test_a_keyring_that_keeps_plain_text_or_nothing_is_refused_and_nothing_is_written(chosen, make):
    backend = make()
    chosen(backend)
    with pytest.raises(KeyUnavailable, match="not known to encrypt"):
        KeyringKey("journal").identity()
    parts = backend.backends if isinstance(backend, ChainerBackend) else [backend]
    assert [getattr(part, "kept", {}) for part in parts] == [{}] * len(parts)


def test_of_a_chain_only_the_trusted_keyring_is_used(chosen):
    untrusted, safe = NullKeyring(), Safe()
    chosen(_chain(untrusted, safe))
    KeyringKey("journal", **TRUSTING).identity()
    assert list(safe.kept) == [("syncengine: journal", "restore points")]


@pytest.mark.parametrize("backend", [Locked, Forgetful])
def test_a_keyring_that_is_locked_or_forgets_is_said_and_its_words_are_not(chosen, backend):
    chosen(backend())
    with pytest.raises(KeyUnavailable) as refused:
        KeyringKey("journal", **TRUSTING).identity()
    assert "sentence" not in str(refused.value)


# From the host.


def test_the_host_gives_the_text_of_a_key():
    key = SealingKey.fresh()
    assert HostKey(key.secret_text).identity() == key


@pytest.mark.parametrize("answer", [None, b"AGE-SECRET-KEY-1", "", "hunter2"])
def test_what_the_host_gives_instead_of_a_key_is_refused_and_not_shown(answer):
    with pytest.raises(KeyUnavailable) as refused:
        HostKey(lambda: answer).identity()
    assert "hunter2" not in str(refused.value)


def test_a_host_whose_callback_raises_is_said_by_the_kind_of_error():
    def ask():
        raise RuntimeError("hunter2")

    with pytest.raises(KeyUnavailable, match="RuntimeError") as refused:
        HostKey(ask).identity()
    assert "hunter2" not in str(refused.value)
