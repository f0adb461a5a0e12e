"""Building of libraries: where they are kept, by what compiler, and when they are built anew."""

import ctypes

import pytest
import torch

from lmri import native
from lmri.errors import BuildError
from lmri.native import Library, build_key, built, find_compiler, private_cache

SOURCE = """
#define JOINED_AGAIN(a, b) a##b
#define JOINED(a, b) JOINED_AGAIN(a, b)
extern "C" __attribute__((visibility("default"))) int JOINED(LMRI_SET, _bytes)() {
  return LMRI_BYTES;
}
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of one small source, and an empty cache."""
    folder = tmp_path / "of_the_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "loops.cpp").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Library("loops of the test", "of_the_test", "loops.cpp")


@pytest.fixture
def compiler(library):
    try:
        return find_compiler(library)
    except BuildError:
        pytest.skip("there is no C++ compiler")


def test_a_library_is_built_once_for_every_set_of_instructions(library, compiler):
    path = built(library)
    made = path.stat().st_mtime_ns
    loaded = ctypes.CDLL(str(path))
    sets = {name: getattr(loaded, f"{name}_bytes")() for name in native._sets()}
    assert sets == {name: size for name, (size, _) in native._sets().items()}
    assert built(library) == path
    assert path.stat().st_mtime_ns == made
    assert not list(path.parent.glob("*.partial*"))


def test_a_source_that_does_not_compile_is_named(library, compiler):
    (library.folder / "loops.cpp").write_text("no c++")
    with pytest.raises(BuildError, match="The loops of the test cannot be built with"):
        built(library)
    assert not list(private_cache(library).glob("*.so"))


def test_a_cache_that_others_may_write_is_refused(library, tmp_path):
    folder = tmp_path / "cache" / "lmri" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(BuildError, match=r"others may write it.*chmod 700"):
        private_cache(library)


def test_a_compiler_named_in_the_environment_comes_first(library, monkeypatch):
    monkeypatch.setenv("CXX", "sh -x")
    assert find_compiler(library)[1:] == ["-x"]
    monkeypatch.setenv("CXX", "no-such-compiler -x")
    with pytest.raises(BuildError, match=r"build the loops .*looked for CXX='no-such-compiler'"):
        find_compiler(library)


def test_the_key_changes_with_what_the_library_depends_on(library, compiler, monkeypatch):
    keys = {build_key(library, compiler), build_key(library, [*compiler, "-g"])}
    with monkeypatch.context() as patched:
        patched.setattr(native, "FLAGS", ("-O2",))
        keys.add(build_key(library, compiler))
    with monkeypatch.context() as patched:
        patched.setattr(torch, "__version__", "2.0.0")
        keys.add(build_key(library, compiler))
    assert len(keys) == 4
    assert build_key(library, compiler) in keys
    (library.folder / "loops.cpp").write_text(SOURCE + "// other")
    assert build_key(library, compiler) not in keys
