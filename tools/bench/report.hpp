// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <iosfwd>

#include "figure.hpp"

namespace bench {

/// Whether targets are judged; a smoke run is too short for that.
enum class judgement { judged, not_judged };

/// An aligned table: a line for carom, one for each peer and limit, with ratio, target, verdict.
void print_table(std::ostream& out, const figure& measured, judgement judge);

/// A JSON object on a line for carom's value where it stands alone, and one for each peer.
void print_json(std::ostream& out, const figure& measured, judgement judge);

}  // namespace bench
