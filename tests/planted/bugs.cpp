#include "bugs.h"

namespace planted {

const std::vector<Bug> kGradientBugs = {
    {1, "RLG", "dW_hh reads h_t instead of h_{t-1}"},
    {3, "RLG", "dW_ih is assigned, not accumulated"},
    {4, "RLG", "bias gradient of the first sequence only"},
    {5, "RLG", "bias gradient is the batch's mean"},
    {6, "RLG", "dh0 stays zero"},
    {7, "RLG", "h0 is missing in dW_hh"},
    {8, "RLG", "W_hh transposed in each gate's block"},
    {9, "RLG", "dh is not carried to the step before"},
    {10, "RLG", "gradient of h_n ignored"},
    {11, "L", "gradient of c_n ignored"},
    {12, "RLG", "dropout mask missing in backward"},
    {13, "RLG", "1/(1-p) missing in backward"},
    {14, "RLG", "dx of the reverse direction overwrites"},
    {15, "RLG", "halves of the directions swapped"},
    {16, "RLG", "dy of the reverse direction not reversed"},
    {17, "RLG", "layers above the second use its input"},
    {18, "RLG", "lengths ignored in backward"},
    {20, "RLG", "dx overwrites dy before the reverse direction reads it"},
    {21, "RLG", "incoming gradient taken for row-major"},
    {22, "RLG", "saved h overwritten by backward"},
    {31, "L", "gradients of g and o swapped"},
    {32, "L", "df reads c_t instead of c_{t-1}"},
    {33, "L", "tanh'(c) missing"},
    {34, "L", "dc is carried without f"},
    {35, "L", "dc of the step after dropped"},
    {36, "L", "do reads c instead of tanh c"},
    {37, "L", "df has the slope of i"},
    {38, "L", "dg has the slope 1-g"},
    {39, "L", "dc0 stays zero"},
    {41, "G", "dn reaches the hidden side without r"},
    {42, "G", "gradient of b_hh is that of b_ih"},
    {43, "G", "z dh missing in dh_{t-1}"},
    {44, "G", "dz has the wrong sign"},
    {45, "G", "dr reads h instead of W_hn h + b_hn"},
    {51, "R", "slope 1-h instead of 1-h^2"},
    {52, "R", "slope of tanh taken at h"},
};

const std::vector<Bug> kCornerBugs = {
    {62, "RLG", "gradient not put in the order of the sorted sequences"},
    {63, "R", "relu'(0) = 1"},
    {64, "RLG", "gradient read time-first under batch_first"},
    {65, "L", "dW_hr reads the projected h"},
    {66, "RLG", "bias gradient written although there is no bias"},
    {67, "RLG", "gradient of the padding leaks into the sequence"},
    {68, "RLG", "dropout in evaluation mode"},
    {69, "RLG", "mask drawn anew in backward"},
};

const std::vector<Bug> kAgreedBugs = {
    {81, "LG", "order of the gates"},
    {82, "G", "r before the product with W_hn"},
    {83, "G", "b_hn outside r"},
    {84, "RLG", "one bias instead of two"},
    {85, "RLG", "dropout after the last layer"},
    {86, "RLG", "states in the order of directions, then layers"},
    {87, "L", "forget gate has a bias of 1"},
    {88, "RLG", "sigmoid instead of tanh"},
    {89, "RLG", "batch_first applied to h0"},
    {90, "RLG", "h_n taken at the end of the padding"},
};

const std::vector<Bug> kDefinitionBugs = {
    {91, "RLG", "h is carried without its history"},
    {92, "RLG", "dropout mask missing in the definition"},
    {93, "RLG", "lengths ignored in the definition"},
    {94, "G", "r before the product in the definition"},
    {95, "L", "h reads c instead of tanh c in the definition"},
    {96, "RLG", "no definition: second derivatives are zero"},
};

const std::vector<Bug> kStepBugs = {
    {60, "", "engine: .grad assigned, not accumulated"},
    {61, "", "engine: a parameter used twice is counted once"},
    {70, "", "engine: retain_graph frees what was saved"},
    {71, "", "in-place write does not raise the version"},
    {72, "", "clipping by the norm of each tensor"},
    {73, "", "Adam: bias correction of the step before"},
    {74, "", "weight decay applied twice"},
    {75, "", "Adam: step count not restored"},
};

}  // namespace planted
