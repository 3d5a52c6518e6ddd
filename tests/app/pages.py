"""What a browser tab would ask of the server."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from starlette.testclient import TestClient

SIZE = (48, 64)
COUNT = 12
LOCAL = "http://127.0.0.1:8650"


class Page:
    """One tab."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.tab = client.post("/api/tabs").json()["tab"]

    def get(self, path: str) -> Any:
        return self.client.get(f"/api/{self.tab}/{path}")

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(f"/api/{self.tab}/{path}", json=body)

    def state(self) -> Any:
        return self.get("state").json()

    def upload(self, name: str, data: bytes, path: str = "video") -> Any:
        return self.client.post(
            f"/api/{self.tab}/{path}", content=data, headers={"X-File-Name": quote(name)}
        )

    def mask(self, frame: int) -> np.ndarray:
        """The mask of a frame as sent, values are objects."""
        answer = self.get(f"masks/{frame}.png")
        assert answer.status_code == 200
        return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)

    def box(self, frame: int, x0: float, y0: float, x1: float, y1: float, thing: int = 1) -> Any:
        points = [[x0, y0], [x1, y1]]
        return self.post("edit", frame=frame, object=thing, tool="box", points=points)

    def finish(self) -> Any:
        """Wait for the job and tell how it ended."""
        for _ in range(1000):
            job = self.state()["job"]
            if not job["active"]:
                return job
            time.sleep(0.01)
        raise AssertionError("the job does not end")
