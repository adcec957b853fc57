//! Histories of `docs/HAZARDS.md`, played step by step with faults placed by a script.

mod announcements;
mod answers;
mod promotions;
mod races;
mod stage;
mod standstill;
mod velocity;
