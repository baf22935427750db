package oscar;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.OutputStream;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A file of bytes= bytes (default 300 MiB) whose content follows from the offset alone: each eight bytes are splitmix64 of
 * their number, low byte first. With digest=1 it answers the SHA-256 instead, with chunked=1 it names no length.
 */
public final class Download extends HttpServlet {
    private static final long DEFAULT_BYTES = 300L << 20;
    private static final Pattern RANGE = Pattern.compile("bytes=(\\d*)-(\\d*)");

    @Override
    protected void doGet(HttpServletRequest req, HttpServletResponse res) throws ServletException, IOException {
        long size = req.getParameter("bytes") == null ? DEFAULT_BYTES : Long.parseLong(req.getParameter("bytes"));
        if ("1".equals(req.getParameter("digest"))) {
            digest(res, size);
            return;
        }
        long from = 0;
        long to = size;
        res.setHeader("ETag", "\"backup-" + size + "\"");
        res.setHeader("Accept-Ranges", "bytes");
        Matcher range = RANGE.matcher(req.getHeader("Range") == null ? "" : req.getHeader("Range"));
        if (range.matches() && !(range.group(1).isEmpty() && range.group(2).isEmpty())) {
            if (range.group(1).isEmpty()) {
                from = Math.max(0, size - Long.parseLong(range.group(2)));
            } else {
                from = Long.parseLong(range.group(1));
                to = range.group(2).isEmpty() ? size : Math.min(size, Long.parseLong(range.group(2)) + 1);
            }
            if (from >= to) {
                res.setHeader("Content-Range", "bytes */" + size);
                res.sendError(416);
                return;
            }
            res.setStatus(206);
            res.setHeader("Content-Range", "bytes " + from + "-" + (to - 1) + "/" + size);
        }
        res.setContentType("application/octet-stream");
        res.setHeader("Content-Disposition", "attachment; filename=\"backup.bin\"");
        if (!"1".equals(req.getParameter("chunked"))) {
            res.setContentLengthLong(to - from);
        }
        OutputStream out = res.getOutputStream();
        byte[] buffer = new byte[64 << 10];
        for (long at = from; at < to; ) {
            int n = (int) Math.min(buffer.length, to - at);
            fill(buffer, at, n);
            out.write(buffer, 0, n);
            at += n;
        }
    }

    private static void digest(HttpServletResponse res, long size) throws IOException {
        MessageDigest digest = Digests.sha256();
        byte[] buffer = new byte[64 << 10];
        for (long at = 0; at < size; ) {
            int n = (int) Math.min(buffer.length, size - at);
            fill(buffer, at, n);
            digest.update(buffer, 0, n);
            at += n;
        }
        res.setContentType("text/plain;charset=UTF-8");
        res.getWriter().println(HexFormat.of().formatHex(digest.digest()));
    }

    private static void fill(byte[] to, long at, int n) {
        long word = mix(at >>> 3);
        for (int i = 0; i < n; i++, at++) {
            int shift = (int) (at & 7);
            if (shift == 0) {
                word = mix(at >>> 3);
            }
            to[i] = (byte) (word >>> (8 * shift));
        }
    }

    private static long mix(long i) {
        long z = (i + 1) * 0x9E3779B97F4A7C15L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }
}
