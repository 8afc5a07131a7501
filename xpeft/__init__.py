"""X-PEFT: extremely parameter-efficient fine-tuning over a frozen bank of adapters."""

__version__ = "0.1.0"
