# SPDX-License-Identifier: Apache-2.0
"""From folders to what is served: reading adapters, telling of their runs, watching a folder."""
