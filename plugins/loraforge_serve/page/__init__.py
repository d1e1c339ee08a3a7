# SPDX-License-Identifier: Apache-2.0
"""The chat page: static files without a build step, the routes that hand them out, and where its thumbs go."""
