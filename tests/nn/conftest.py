"""How the layers' tests run: one thread, and examples as their main does."""

import importlib.util
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the layers are torch's")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from more, and wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def example(tmp_path, monkeypatch, capsys):
    """Run an example, which draws where it is told to, and return its figures."""
    pytest.importorskip("matplotlib", reason="the examples draw")
    monkeypatch.chdir(tmp_path)

    def run(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        picture = tmp_path / "picture.png"
        found = module.main(picture)
        assert capsys.readouterr().out.endswith(f"drew {picture}\n")
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert list(tmp_path.iterdir()) == [picture]
        return found

    return run
