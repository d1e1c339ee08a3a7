# SPDX-License-Identifier: Apache-2.0
"""Tables of questions and answers: files to rows, rows to conversations."""
