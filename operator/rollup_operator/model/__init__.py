"""The resources as typed, tolerant readers; conditions; time values; schedules. No I/O, no asyncio."""
