"""Tables of questions and answers: files to rows, rows to conversations."""
