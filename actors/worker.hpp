// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace carom::actors {

/// Says what the workers of this process run; done before main already, where this is linked in.
void provide_workers();

}  // namespace carom::actors
