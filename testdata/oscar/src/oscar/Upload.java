package oscar;

import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.StringJoiner;
import org.apache.tomcat.util.http.fileupload.FileItemIterator;
import org.apache.tomcat.util.http.fileupload.FileItemStream;
import org.apache.tomcat.util.http.fileupload.FileUpload;
import org.apache.tomcat.util.http.fileupload.FileUploadException;
import org.apache.tomcat.util.http.fileupload.servlet.ServletRequestContext;

/** Takes documents of any size as they come, keeping only their length and digest. Counts an upload only when it was whole. */
public final class Upload extends HttpServlet {
    @Override
    protected void doPost(HttpServletRequest req, HttpServletResponse res) throws ServletException, IOException {
        Clinic.count("uploadsBegun");
        StringJoiner files = new StringJoiner(",", "[", "]");
        StringJoiner fields = new StringJoiner(",", "{", "}");
        try {
            FileItemIterator items = new FileUpload().getItemIterator(new ServletRequestContext(req));
            while (items.hasNext()) {
                FileItemStream item = items.next();
                try (InputStream in = item.openStream()) {
                    if (item.isFormField()) {
                        fields.add(Text.json(item.getFieldName()) + ":" + Text.json(new String(in.readNBytes(64 << 10), "UTF-8")));
                    } else {
                        files.add(file(item, in));
                    }
                }
            }
        } catch (FileUploadException e) {
            res.sendError(400);
            return;
        }
        Clinic.count("uploads");
        res.setContentType("application/json;charset=UTF-8");
        res.getWriter().print("{\"files\":" + files + ",\"fields\":" + fields + "}");
    }

    private static String file(FileItemStream item, InputStream in) throws IOException {
        MessageDigest digest = Digests.sha256();
        byte[] buffer = new byte[64 << 10];
        long n = 0;
        for (int got; (got = in.read(buffer)) >= 0; n += got) {
            digest.update(buffer, 0, got);
        }
        return "{\"name\":" + Text.json(item.getName()) + ",\"bytes\":" + n + ",\"sha256\":\"" + HexFormat.of().formatHex(digest.digest()) + "\"}";
    }
}
