"""SyncDreamer: 16 consistent views of the object in one photo, arXiv 2309.03453.

It does not know how the photo was cut out or what is made of the views. Method and weights layout:
(c) 2023 Yuan Liu, MIT (github.com/liuyuan-pal/SyncDreamer). Importing this package imports no
model code; `pipeline.engines.views.syncdreamer.syncdreamer_views` holds the engine.
"""
