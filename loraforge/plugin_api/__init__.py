# SPDX-License-Identifier: Apache-2.0
"""What a plugin author writes against, and the host that finds plugins. ``loraforge.__all__`` says what of it is public."""
