"""Rules, a file each, and pure: no event loop, no HTTP library, no clock, no chance. Time comes in as a number."""
