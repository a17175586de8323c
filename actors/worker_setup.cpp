// SPDX-License-Identifier: BSL-1.0
#include "actors/worker_setup.hpp"

#include "runtime/log.hpp"
#include "runtime/modules.hpp"
#include "runtime/own_process.hpp"
#include "runtime/process_state.hpp"

namespace carom::actors {
namespace {

bool put_call(const std::optional<packed_call>& call, std::uint64_t& module, std::uint64_t& offset,
              std::string& packed) {
  if (!call) return false;
  const auto code = detail::to_code_ref(detail::call_access::entry(*call));
  const auto arguments = detail::call_access::arguments(*call);
  module = code.module;
  offset = code.offset;
  packed.assign(reinterpret_cast<const char*>(arguments.data()), arguments.size());
  return true;
}

}  // namespace

serialization::setup_message make_setup(const pool_options& options, std::uint64_t worker_id,
                                        std::uint32_t index, int cpus) {
  serialization::setup_message setup;
  setup.worker_id = worker_id;
  setup.index = static_cast<std::int32_t>(index);
  setup.pool_name = options.name;
  setup.log_level = runtime::log_level();
  setup.forwards_log = options.forward_log;
  // Only workers that each have a CPU may look around on it before they sleep.
  if (options.processes <= cpus) setup.linger_ns = 20'000;
  // First: they may bring a module that is not in the list yet.
  setup.has_initializer = put_call(options.initializer, setup.initializer_module,
                                   setup.initializer_offset, setup.initializer_arguments);
  setup.has_exit_call =
      put_call(options.on_process_exit, setup.exit_module, setup.exit_offset, setup.exit_arguments);
  setup.weighed = options.max_memory_per_child || options.memory_limit || options.pool_memory_limit;
  setup.max_memory = options.max_memory_per_child.value_or(0);
  for (const resource_limit& one : options.rlimits)
    setup.rlimits.push_back({one.resource, one.soft, one.hard});
  setup.nice = options.nice;
  setup.cpu_affinity.assign(options.cpu_affinity.begin(), options.cpu_affinity.end());
  setup.origin = runtime::own_process::instance().origin_of_child();
  setup.origin.name = setup.origin.identity = options.name + "-" + std::to_string(index);
  if (options.start_method == start_method::forkserver)
    setup.inherited_modules = runtime::process_state::instance().server_modules;
  for (std::size_t i = setup.inherited_modules; i < runtime::module_count(); ++i) {
    const auto info = runtime::module_at(i);
    setup.modules.push_back({info.build_id, info.path});
  }
  return setup;
}

}  // namespace carom::actors
