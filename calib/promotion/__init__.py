"""From a PASS to where models are served from: only what was judged, whole or not at all."""
