// SPDX-License-Identifier: BSL-1.0
#include "actors/worker_setup.hpp"

#include "runtime/log.hpp"
#include "runtime/modules.hpp"

namespace carom::actors {

serialization::setup_message make_setup(const pool_options& options, std::uint64_t worker_id,
                                        std::uint32_t index) {
  serialization::setup_message setup;
  setup.worker_id = worker_id;
  setup.index = static_cast<std::int32_t>(index);
  setup.pool_name = options.name;
  setup.log_level = runtime::log_level();
  // Only workers that each have a CPU may look around on it before they sleep.
  if (options.processes <= cpu_count()) setup.linger_ns = 20'000;
  if (options.initializer) {
    // First: it may bring a module that is not in the list yet.
    const auto code = detail::to_code_ref(detail::call_access::entry(*options.initializer));
    const auto arguments = detail::call_access::arguments(*options.initializer);
    setup.has_initializer = true;
    setup.initializer_module = code.module;
    setup.initializer_offset = code.offset;
    setup.initializer_arguments.assign(reinterpret_cast<const char*>(arguments.data()),
                                       arguments.size());
  }
  for (std::size_t i = 0; i < runtime::module_count(); ++i) {
    const auto info = runtime::module_at(i);
    setup.modules.push_back({info.build_id, info.path});
  }
  return setup;
}

}  // namespace carom::actors
