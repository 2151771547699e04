"""A page in the browser to try the CRF on photographs: `deeplab-native serve`.

Needs `pip install 'deeplab_native[web]'`; Gradio is imported by `page` and `server` alone. What a
visitor has done so far is a `Workspace`, which knows nothing of pages: what is computed when is
decided there. `Sessions` holds the workspaces of all visitors, `routes` gives out their pictures
and files, and `page` has the controls.
"""
