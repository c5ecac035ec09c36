//! Component tests: whole behaviour through the library, on fixtures that the tests make themselves.

mod layers;
mod support;

mod store;
