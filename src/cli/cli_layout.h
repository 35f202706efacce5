/*
 * cli_layout - layouts by their names.
 */
#pragma once

#include "cli_private.h"

#define CLI_LAYOUT_DEFAULT "cellpainting"
