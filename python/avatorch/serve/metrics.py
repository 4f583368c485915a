"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

TRACKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Of one service."""

    def __init__(self) -> None:
        known = self.registry = CollectorRegistry()
        ProcessCollector(registry=known)
        PlatformCollector(registry=known)
        self.answers = Counter("avatorch_answers", "Answers to uploads, by status", ["status"], registry=known)
        self.answer_seconds = Histogram(
            "avatorch_answer_seconds", "From the first byte of an upload to its answer", buckets=SECONDS, registry=known
        )
        self.faults = Counter("avatorch_faults", "Refusals and failures, by code", ["code"], registry=known)
        self.sockets = Gauge("avatorch_sockets", "WebSockets that are open", registry=known)
        self.tracks = Gauge("avatorch_tracks", "Tracks that there are", registry=known)
        self.tracks_taken = Gauge("avatorch_tracks_taken", "Tracks with a clip", registry=known)
        self.waiting = Gauge("avatorch_clips_waiting", "Clips that wait for a track", registry=known)
        self.audio_seconds = Counter("avatorch_audio_seconds", "Seconds of sound taken", registry=known)
        self.frames = Counter("avatorch_frames", "Frames given out", registry=known)
        self.tracks_per_inference = Histogram(
            "avatorch_tracks_per_inference", "Tracks that were computed together", buckets=TRACKS, registry=known
        )
        self.inference_seconds = Histogram(
            "avatorch_inference_seconds", "Time of an inference and what follows it", buckets=SECONDS, registry=known
        )
        self.frame_latency = Histogram(
            "avatorch_frame_latency_seconds",
            "Sockets: from the last sample that a frame needs to the frame",
            buckets=SECONDS,
            registry=known,
        )
