import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevolve.core.candidate import SourceFile
from kernelevolve.programmers.llm.answer import Complaint, parse

MODEL = "import torch\n\nclass ModelNew(torch.nn.Module):\n    pass  # kernel.cpp\n"
CURRENT = (
    SourceFile(path="model.py", text=MODEL),
    SourceFile(path="kernel.cpp", text="int a = 1;\nint b = 2;\nint a2 = 1;\nint b = 2;\n"),
)


def block(old: str, new: str) -> str:
    return f"<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"


def edited(old: str, new: str) -> str:
    answer = parse(f"EDIT: kernel.cpp\n```\n{block(old, new)}```\n", CURRENT)
    return {f.path: f.text for f in answer.files}["kernel.cpp"]


def test_an_edit_replaces_the_one_passage_that_matches():
    assert edited("int a = 1;\n", "int a = 7;\n").startswith("int a = 7;\nint b = 2;\nint a2")
    assert edited("int a = 1;\nint b = 2;\n", "") == "int a2 = 1;\nint b = 2;\n"


@pytest.mark.parametrize(
    "old, words",
    [
        ("int b = 2;\n", "matches 2 times, on lines 2, 4"),
        ("int c = 2;\n", "does not occur.*closest.*line"),
        ("void f();\n", "does not occur.*exactly as they stand"),
        ("", "SEARCH is empty"),
    ],
)
def test_an_edit_that_does_not_apply_says_why(old, words):
    with pytest.raises(Complaint, match=words):
        edited(old, "int x;\n")


def test_several_edits_apply_in_order_and_a_file_that_is_named_is_new():
    imports = block("import torch\n", "import torch  # fast.cpp\n")
    line = "class ModelNew(torch.nn.Module):"
    named = block(f"{line}\n", f"{line}  # x\n")
    text = (
        "FILE: fast.cpp\n```cpp\nint f;\n```\n"
        f"EDIT: model.py\n```\n{imports}{named}```\nDELETE: kernel.cpp\n"
    )
    files = {f.path: f.text for f in parse(text, CURRENT).files}
    assert set(files) == {"model.py", "fast.cpp"}
    assert "# fast.cpp" in files["model.py"] and "# x" in files["model.py"]


def test_sources_that_nothing_names_any_more_are_left_behind():
    text = "FILE: model.py\n```python\nclass ModelNew: ...\n```\n"
    assert [f.path for f in parse(text, CURRENT).files] == ["model.py"]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nclass ModelNew: ...\n```",
        "Here it is:\n\n```python model.py\nclass ModelNew: ...\n```\nGood luck!",
        "**FILE: `model.py`**\n\n~~~python\nclass ModelNew: ...\n~~~",
        "### File: model.py\n````python\nclass ModelNew: ...\n````",
        "```python\n# model.py\nclass ModelNew: ...\n```",
        "For example\n```bash\nmake\n```\nFILE: model.py\n```\nclass ModelNew: ...\n```",
    ],
)
def test_what_plainly_is_a_kernel_is_read(text):
    (file,) = parse(text).files
    assert file.path == "model.py"
    assert "class ModelNew" in file.text


def test_a_fence_inside_a_file_needs_a_longer_one_around_it():
    text = 'FILE: model.py\n````python\n"""\n```\nx\n```\n"""\nclass ModelNew: ...\n````\n'
    assert "```\nx\n```" in parse(text).files[0].text


@pytest.mark.parametrize(
    "path", ["../model.py", "/etc/passwd.py", "a/../../b.py"], ids=["up", "absolute", "through"]
)
def test_no_path_leaves_the_folder(path):
    kernel = "```\nclass ModelNew: ...\n```\n"
    with pytest.raises((Complaint, ValueError)):
        parse(f"FILE: {path}\n{kernel}FILE: model.py\n{kernel}")


def test_hypothesis_and_prediction_are_read_however_they_are_set():
    kernel = "FILE: model.py\n```\nclass ModelNew: ...\n```\n"
    for head in (
        "HYPOTHESIS: one pass\nPREDICTED: 1.7\n",
        "**Hypothesis:** one pass\n- Predicted: 1.7x\n",
    ):
        answer = parse(head + kernel)
        assert (answer.hypothesis, answer.predicted) == ("one pass", 1.7)
    assert parse(kernel).predicted is None


@given(
    st.text(
        alphabet=st.sampled_from("`~\n<=>SEARCHREPLACE FILE:model.py#class ModelNew"), max_size=300
    )
)
def test_whatever_a_model_writes_is_an_answer_or_a_complaint(text):
    try:
        answer = parse(text, CURRENT)
    except Complaint:
        return
    assert any(f.path == "model.py" for f in answer.files)
