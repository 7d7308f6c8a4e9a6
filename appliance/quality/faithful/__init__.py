"""Whether what a network sees of a series still shows what the series shows. Pure.

    tensor, its affine -> HU at the scan's own pixels            back
    original, back     -> PSNR, SSIM                             likeness
    original, back     -> body, lungs, tissue kept               anatomy
    spheres            -> stored pixels of a made-up series      spheres
    tensor, spheres    -> contrast and shift of each             reading
    op list            -> what was measured, which limit fails   verdict

Rules.
1. The way back is written apart from the way there: it shares no line with `preprocess`, and finds
   each pixel by the tensor's own affine and by PS3.3 C.7.6.2.1.1.
2. There and back cannot see a fault that undoes itself. So spheres of known size at known places
   are drawn into the images as they were sent, and read in the tensor where they stand; and the
   axes of the tensor are looked at.
3. Likeness is printed and judges nothing: a line that works has an SSIM of .6 on a noisy scan.
4. It is asked for by hand and when a bundle is packed. No stage imports it: never is it run between
   the last slice and the report.
"""
