"""Producers written by others, in Node.js: the libraries that the existing programs use."""
