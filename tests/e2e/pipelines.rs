//! What a definition file may say, by what its jobs do.

mod checks;
mod files;
mod keys;
mod wait_list;
