"""Prompt templates by name: what a base was trained with, and the paper's own."""

from __future__ import annotations

IMAGE = "<image>"
"""The video's place in a template."""

_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: %s\n{question} ASSISTANT:"
)
_PICTURE = "Picture 1: <img><image></img>\n{question}"
_FAKE = (
    "%sUser:<fake_token_around_image><global-img><image><fake_token_around_image>{question}"
    "<end_of_utterance>\nAssistant:"
)


def _chatml(user: str, system: str = "") -> str:
    turns = [("system", system)] * bool(system) + [("user", user)]
    text = "".join(f"<|im_start|>{who}\n{what}<|im_end|>\n" for who, what in turns)
    return f"{text}<|im_start|>assistant\n"


TEMPLATES = {
    "paper": "User: <image>{question} Assistant:",
    "llava-1.5": "USER: <image>\n{question} ASSISTANT:",
    "vicuna-v1": _VICUNA % "<image>",
    "vicuna-v1-start-end": _VICUNA % "<im_start><image><im_end>",
    "qwen-raw": f"{_PICTURE} Answer:",
    "qwen-raw-zh": f"{_PICTURE} 回答:",
    "qwen-chatml": _chatml(_PICTURE, "You are a helpful assistant."),
    "qwen-chatml-zh": _chatml(_PICTURE, "你是一个乐于助人的助手。"),
    "mistral": "[INST] <image>\n{question} [/INST]",
    "llava-onevision": "<|im_start|>user <image>\n{question}<|im_end|><|im_start|>assistant\n",
    "internvl": _chatml("<img><image></img>\n{question}"),
    "qwen2-vl": _chatml(
        "<|vision_start|><image><|vision_end|>{question}", "You are a helpful assistant."
    ),
    "idefics3": _FAKE % "",
    "smolvlm": _FAKE % "<|im_start|>",
    "paligemma": "<image><bos>{question}\n",
    "gemma3": (
        "<start_of_turn>user\n\n\n<start_of_image><image><end_of_image>\n\n{question}"
        "<end_of_turn>\n<start_of_turn>model\n"
    ),
}
"""`paper` is the paper's equation 4. Qwen-VL's picture tag stays as it was trained, in Chinese too.
"""


def template_of(prompt: str) -> str:
    """The template of that name, or the text itself."""
    return TEMPLATES.get(prompt, prompt)
