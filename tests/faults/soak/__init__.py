"""The soak: commands to devices while broker, devices and controllers are killed; afterwards every one is accounted for."""
