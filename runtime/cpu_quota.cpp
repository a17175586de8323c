// SPDX-License-Identifier: BSL-1.0
#include "runtime/cpu_quota.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>
#include <vector>

namespace carom::runtime {
namespace {

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(at), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

bool lists(std::string_view commas, std::string_view wanted) {
  for (const std::string_view each : split(commas, ','))
    if (each == wanted) return true;
  return false;
}

/// Spaces and the like stand in mountinfo as \ and three octal digits.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '\\' && i + 4 <= text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8).ptr ==
            text.data() + i + 4) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

/// The path of the cgroup below the root of its hierarchy. A line is number:controllers:path.
std::optional<std::string_view> path_of(cgroup_version version, std::string_view cgroup) {
  for (const std::string_view line : split(cgroup, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    if (version == cgroup_version::v2 ? controllers.empty() && line.substr(0, first) == "0"
                                      : lists(controllers, "cpu"))
      return line.substr(second + 1);
  }
  return std::nullopt;
}

struct number {
  bool is_one = false;
  double value = 0;
};

number first_number(std::string_view text) noexcept {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\n')) text.remove_prefix(1);
  long long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return {error == std::errc{}, static_cast<double>(value)};
}

double ratio(number quota, number period) noexcept {
  if (!quota.is_one || !period.is_one || quota.value <= 0 || period.value <= 0) return HUGE_VAL;
  return quota.value / period.value;
}

}  // namespace

std::optional<cgroup_place> find_cpu_cgroup(cgroup_version version, std::string_view cgroup,
                                            std::string_view mountinfo) {
  const auto path = path_of(version, cgroup);
  if (!path) return std::nullopt;
  std::optional<cgroup_place> found;
  for (const std::string_view line : split(mountinfo, '\n')) {
    // id parent device root mount options [more...] - type source options
    const std::size_t dash = line.find(" - ");
    if (dash == line.npos) continue;
    const auto left = split(line.substr(0, dash), ' ');
    const auto right = split(line.substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    if (version == cgroup_version::v2 ? right[0] != "cgroup2"
                                      : right[0] != "cgroup" || !lists(right[2], "cpu"))
      continue;
    const std::string root = unescape(left[3]);
    found = cgroup_place{unescape(left[4]), std::string(*path)};
    // A container sees its own cgroup as the root of what is mounted.
    if (root != "/") {
      if (found->below.starts_with(root) &&
          (found->below.size() == root.size() || found->below[root.size()] == '/'))
        found->below.erase(0, root.size());
      else
        found->below.clear();
    }
    if (found->below == "/") found->below.clear();
  }
  return found;
}

double cpus_of_max(std::string_view cpu_max) noexcept {
  const std::size_t space = cpu_max.find(' ');
  if (space == cpu_max.npos) return HUGE_VAL;
  return ratio(first_number(cpu_max), first_number(cpu_max.substr(space)));
}

double cpus_of_cfs(std::string_view quota, std::string_view period) noexcept {
  return ratio(first_number(quota), first_number(period));
}

}  // namespace carom::runtime
