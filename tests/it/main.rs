//! Component tests: whole behaviour through the library, on fixtures that the tests make themselves.

mod support;

mod store;
