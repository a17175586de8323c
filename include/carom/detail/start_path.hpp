// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Marks what every new process runs on its way to the user's function and from there to its end.
/// A fork inherits no page of code: each 64 KiB of it that a process enters is a page fault, and
/// one such page after the other is most of what a short process costs. The linker puts functions
/// that are marked so side by side.
#define CAROM_START_PATH [[gnu::hot]]

/// What a new process writes on its way: side by side as well, for the first write to each page is
/// a page fault and a copy.
#define CAROM_START_DATA [[gnu::section("carom_start_data")]]
