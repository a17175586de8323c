// SPDX-License-Identifier: BSL-1.0
#pragma once

/// Marks what programs link against. Everything else in the library is hidden.
#define CAROM_API __attribute__((visibility("default")))
