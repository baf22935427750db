<%@ page contentType="text/html; charset=UTF-8" import="oscar.*" session="false" %><%= Clinic.count("polls") %> alerts
