// Nothing to add: `reduce` is in cooperative_groups.h here.
#pragma once
#include <cooperative_groups.h>
