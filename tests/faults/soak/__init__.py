"""The soak: commands go out while broker, devices and controllers are killed; then each is accounted for."""
