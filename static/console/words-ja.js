// Written by `make translations`.
globalThis.words = {};
