#include "memory/group-usage.h"

#include <algorithm>
#include <fstream>

size_t GroupUsage::bytesInUse() const {
  size_t used = 0;
  if (!(std::ifstream(usageFile) >> used)) return 0;
  std::ifstream statistics(statFile);
  std::string name;
  // Version 1 lists the values of the group alone, and with its subgroups as "total_…". The larger value is the latter.
  size_t active = 0, inactive = 0, bytes;
  while (statistics >> name >> bytes) {
    if (name == "active_file" || name == "total_active_file") active = std::max(active, bytes);
    if (name == "inactive_file" || name == "total_inactive_file") inactive = std::max(inactive, bytes);
  }
  return used - std::min(used, active + inactive);
}
