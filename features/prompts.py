"""Prompt templates by name: what a base was trained with, and the paper's own."""

from __future__ import annotations

IMAGE = "<image>"
"""The video's place in a template."""

_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: %s\n{question} ASSISTANT:"
)
_PICTURE = "Picture 1: <img><image></img>\n{question}"
_CHATML = (
    "<|im_start|>system\n%s<|im_end|>\n<|im_start|>user\n"
    f"{_PICTURE}<|im_end|>\n<|im_start|>assistant\n"
)
TEMPLATES = {
    "paper": "User: <image>{question} Assistant:",
    "llava-1.5": "USER: <image>\n{question} ASSISTANT:",
    "vicuna-v1": _VICUNA % "<image>",
    "vicuna-v1-start-end": _VICUNA % "<im_start><image><im_end>",
    "qwen-raw": f"{_PICTURE} Answer:",
    "qwen-raw-zh": f"{_PICTURE} 回答:",
    "qwen-chatml": _CHATML % "You are a helpful assistant.",
    "qwen-chatml-zh": _CHATML % "你是一个乐于助人的助手。",
}
"""`paper` is the paper's equation 4. Qwen-VL's picture tag stays as it was trained, in Chinese too.
"""


def template_of(prompt: str) -> str:
    """The template of that name, or the text itself."""
    return TEMPLATES.get(prompt, prompt)
