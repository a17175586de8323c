// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace carom::actors {

/// Tells the fork server what its workers run. Call it before the fork server starts.
void provide_workers();

}  // namespace carom::actors
