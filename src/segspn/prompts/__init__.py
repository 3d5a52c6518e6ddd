"""Clicks, boxes and scribbles on one image -> the mask of the object that is meant."""

from segspn.prompts.hints import Prompts
from segspn.prompts.prompter import Answer, Look, Prompter

__all__ = ["Answer", "Look", "Prompter", "Prompts"]
