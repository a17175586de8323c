// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace bench {

/// Before carom::init: what tasks and the test share.
void prepare_soak();
/// `carom-bench soak`: runs tasks of every kind while workers are stopped and killed, and the fork
/// servers too, and fails unless nothing was lost, done twice, hung or leaked.
int soak(int argc, char** argv);

}  // namespace bench
