//! The real daemon with the process supervisor, real runners and the scripted agent, driven by the real claudectl.

mod bad_days;
mod chaos;
mod tasks;
mod world;
