// Nothing to add: what kernels need of it is there before their text.
#pragma once
