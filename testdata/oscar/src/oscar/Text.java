package oscar;

import jakarta.servlet.http.HttpServletRequest;

/** Escaping for HTML and JSON, and the base that pages name. */
public final class Text {
    private Text() {}

    public static String html(String s) {
        return s == null ? "" : s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&quot;").replace("'", "&#39;");
    }

    public static String json(String s) {
        if (s == null) {
            return "null";
        }
        StringBuilder b = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            if (c == '"' || c == '\\') {
                b.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                b.append(String.format("\\u%04x", (int) c));
            } else {
                b.append(c);
            }
        }
        return b.append('"').toString();
    }

    /** The address that pages write into base href: wrong as soon as a proxy hides scheme, host or port. */
    public static String base(HttpServletRequest r) {
        return r.getScheme() + "://" + r.getServerName() + ":" + r.getServerPort() + r.getContextPath() + "/";
    }
}
