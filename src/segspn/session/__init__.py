"""What a session keeps beside its stages: frames to go back to, what a person has marked, files."""

from segspn.session.files import read_state, write_state
from segspn.session.frames import Kept, State, chosen_shots
from segspn.session.marks import Marks, read_marks

__all__ = ["Kept", "Marks", "State", "chosen_shots", "read_marks", "read_state", "write_state"]
